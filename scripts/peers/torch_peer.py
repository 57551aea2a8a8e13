"""The worker that trains the same network in PyTorch, eager, in float32 or in bfloat16 autocast.

It is started by scripts/benchmark.py and does what a good loop of PyTorch does: the data set lies
on the device as uint8, batches are gathered, augmented and normalised there, activations are in
channels_last order, and the optimizers are the fused ones.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cifar_cnn.benchmark.serving import left_out, serve, timed

_ACTIVATIONS = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "gelu": lambda: nn.GELU(approximate="tanh"),  # As flax's.
    "leaky_relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
_PAD_MODES = {"reflect": "reflect", "zero": "constant", "edge": "edge"}


class Scale(nn.Module):
    """Multiplies by a constant."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        return x * self.factor


class Residual(nn.Module):
    """Adds what its layers make of the input to the input."""

    def __init__(self, layers: nn.Module):
        super().__init__()
        self.layers = layers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W], kept."""
        return x + self.layers(x)


class GlobalMax(nn.Module):
    """The largest of each channel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] to [B, C]."""
        return x.amax((2, 3))


def make_network(layers: list[dict[str, Any]]) -> nn.Sequential:
    """The network that `cifar_cnn.benchmark.layers` describes; widths of inputs are still open."""
    return nn.Sequential(*map(_layer, layers))


def _layer(layer: dict[str, Any]) -> nn.Module:
    match layer["kind"]:
        case "conv":
            conv = nn.LazyConv2d(
                layer["features"],
                layer["kernel"],
                stride=layer["stride"],
                padding=layer["kernel"] // 2 if layer["padding"] == "SAME" else 0,
                groups=layer["groups"],
                bias=layer["bias"],
            )
            conv.fixed_weight = "kernel" in layer["frozen"]
            conv.fixed_bias = "bias" in layer["frozen"]
            return conv
        case "batch_norm":
            # PyTorch's momentum is the share that is replaced.
            norm = nn.LazyBatchNorm2d(eps=layer["epsilon"], momentum=1 - layer["momentum"])
            norm.fixed_weight = not layer["scale"]  # Stays 1.
            return norm
        case "activation":
            return _ACTIVATIONS[layer["function"]]()
        case "pool":
            pool = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}[layer["function"]]
            return pool(layer["size"], layer["stride"])
        case "global_max":
            return GlobalMax()
        case "dropout":
            return nn.Dropout(layer["rate"])
        case "flatten":
            return nn.Flatten()
        case "dense":
            return nn.LazyLinear(layer["features"], bias=layer["bias"])
        case "scale":
            return Scale(layer["factor"])
        case "residual":
            return Residual(make_network(layer["layers"]))


def make_augment(
    config: dict[str, Any], images: torch.Tensor
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Draws batches: rows int64 [B] -> images uint8 [B, C, H, W] in channels_last order.

    Flip and crop are part of the gathering, from images that were padded once.

    Args:
      images: uint8 [N, H, W, C].
    """
    names = config["augment"]["names"]
    device = images.device
    height, width = images.shape[1:3]
    flips, crops = "flip" in names, "crop" in names
    padding, padded = 0, images
    if crops:
        padding = config["augment"]["crop"]["padding"]
        pads = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        mode = _PAD_MODES[config["augment"]["crop"]["mode"]]
        padded = torch.from_numpy(np.pad(images.cpu().numpy(), pads, mode)).to(device)
    across, down = torch.arange(width, device=device), torch.arange(height, device=device)

    def draw(rows: torch.Tensor) -> torch.Tensor:
        if not flips and not crops:
            return images[rows].permute(0, 3, 1, 2)
        corners = torch.randint(2 * padding + 1, (2, len(rows), 1), device=device)
        columns = across.expand(len(rows), -1)
        if flips:
            mirrored = torch.rand(len(rows), 1, device=device) < 0.5
            columns = torch.where(mirrored, width - 1 - columns, columns)
        y, x = corners[0] + down, corners[1] + columns
        return padded[rows[:, None, None], y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)

    return draw


def make_update(
    config: dict[str, Any], network: nn.Module, dtype: torch.dtype
) -> Callable[[], None]:
    """The optimizer of a config, at its highest rate throughout: () -> None, after backward()."""
    section = config["optim"]
    trained = [p for p in network.parameters() if p.requires_grad]
    rate, decay = section["learning_rate"], section["weight_decay"]
    if section["name"] == "muon":
        muon = section["muon"]
        kernels = [p for p in trained if p.ndim == 4]
        orthogonal = _make_muon(kernels, rate, muon, dtype)
        others = [p for p in trained if p.ndim != 4]
        # A small rate: the schedule, which keeps a high one from diverging, is left out.
        sgd = torch.optim.SGD(
            others, lr=1e-3, momentum=muon["sgd_momentum"], nesterov=True, fused=True
        )

        def update() -> None:
            sgd.step()
            orthogonal()
            network.zero_grad()

        return update
    if section["name"] == "sgd":
        options = {"momentum": section["sgd"]["momentum"], "nesterov": section["sgd"]["nesterov"]}
        optimizer = torch.optim.SGD(trained, lr=rate, weight_decay=decay, fused=True, **options)
    else:
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[section["name"]]
        betas = (section[section["name"]]["b1"], section[section["name"]]["b2"])
        optimizer = kind(trained, lr=rate, betas=betas, weight_decay=decay, fused=True)

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad()

    return update


def _make_muon(
    kernels: list[nn.Parameter], rate: float, section: dict[str, Any], dtype: torch.dtype
) -> Callable[[], None]:
    """Orthogonalised momentum (Jordan et al. 2024): () -> None updates `kernels` in place."""
    momenta = [torch.zeros_like(kernel) for kernel in kernels]
    a, b, c = 3.4445, -4.7750, 2.0315  # The coefficients of the paper's Newton-Schulz iteration.

    @torch.no_grad()
    def update() -> None:
        for kernel, momentum in zip(kernels, momenta, strict=True):
            momentum.mul_(section["momentum"]).add_(kernel.grad)
            gradient = momentum
            if section["nesterov"]:
                gradient = kernel.grad.add(momentum, alpha=section["momentum"])
            x = gradient.flatten(1).to(dtype)
            tall = x.shape[0] > x.shape[1]
            x = x.T if tall else x
            x = x / (x.norm() + 1e-7)
            for _ in range(section["ns_steps"]):
                gram = x @ x.T
                x = a * x + (b * gram + c * gram @ gram) @ x
            x = x.T if tall else x
            if section["normalize_kernels"]:
                kernel.mul_(math.sqrt(len(kernel)) / kernel.norm())
            kernel.add_(x.reshape(kernel.shape), alpha=-rate)

    return update


def prepare(request: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Builds the network and its loop; see `serving.serve` and `measuring.benchmark`."""
    config, data = request["config"], request["data"]
    torch.set_num_threads(request["threads"])
    torch.set_flush_denormal(True)  # As XLA does.
    gpu = torch.cuda.is_available() and config["run"]["platform"] in ("auto", "cuda", "rocm")
    device = torch.device("cuda" if gpu else "cpu")
    dtype = getattr(torch, request["dtype"])
    images = torch.from_numpy(np.load(data["images"])).to(device)
    labels = torch.from_numpy(np.load(data["labels"])).to(device, torch.int64)
    shape = (1, -1, 1, 1)
    mean = torch.tensor(data["mean"], device=device).reshape(shape)
    std = torch.tensor(data["std"], device=device).reshape(shape)
    draw = make_augment(config, images)
    count, batch_size = len(labels), config["train"]["batch_size"]
    smoothing = config["train"]["label_smoothing"]

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        x = ((pixels.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            return network(x)

    def wait() -> None:
        if gpu:
            torch.cuda.synchronize()

    order, place, pace = torch.randperm(count, device=device), 0, 0.0

    def step() -> None:
        nonlocal order, place
        # The last batch of an epoch is left out where it is smaller.
        if place + batch_size > count:
            order, place = torch.randperm(count, device=device), 0
        rows = order[place : place + batch_size]
        place += batch_size
        logits = forward(draw(rows)).float()
        loss = functional.cross_entropy(logits, labels[rows], label_smoothing=smoothing)
        loss.backward()
        update()

    def steps(left: float) -> int:
        nonlocal pace
        number = max(1, round(left / pace)) if pace else 1
        start = time.perf_counter()
        network.train()
        for _ in range(number):
            step()
        wait()
        pace = (time.perf_counter() - start) / number
        return number * batch_size

    @torch.inference_mode()
    def passes(left: float) -> int:
        del left
        network.eval()
        correct = torch.zeros((), device=device)
        for first in range(0, request["eval_images"], batch_size):
            # A slice of channels_last images is a view, and needs no gathering.
            rows = slice(first, min(first + batch_size, request["eval_images"]))
            logits = forward(images[rows].permute(0, 3, 1, 2))
            correct += (logits.argmax(1) == labels[rows]).sum()
        correct.item()
        return request["eval_images"]

    start = time.perf_counter()
    network = make_network(request["layers"]).to(device)
    with torch.no_grad():
        network.eval()
        forward(images[:2].permute(0, 3, 1, 2))  # Decides what was still open.
    for module in network.modules():
        if getattr(module, "fixed_weight", False):
            module.weight.requires_grad_(False)
        if getattr(module, "fixed_bias", False):
            module.bias.requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)
    update = make_update(config, network, dtype)
    steps(0.0)
    first = time.perf_counter() - start
    steps(0.0)
    passes(0.0)
    return {
        "device": torch.cuda.get_device_name() if gpu else f"cpu, {request['threads']} threads",
        "parameters": _parameters(network),
        "first_step_seconds": first,
        "notes": left_out(config, ("flip", "crop", "label smoothing")),
    }, {
        "train": lambda seconds: timed(steps, seconds),
        "evaluate": lambda seconds: timed(passes, seconds),
        "device_memory": lambda: torch.cuda.max_memory_allocated() if gpu else None,
    }


def _parameters(network: nn.Module) -> int:
    """How many there are, without the scales that stay 1."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    constant = sum(m.weight.numel() for m in norms if not m.weight.requires_grad)
    return sum(p.numel() for p in network.parameters()) - constant


if __name__ == "__main__":
    serve(prepare)
