"""What lies in a folder of pictures: its splits, classes and files, from names and sizes alone.

FOLDER/CLASS/picture.jpg, or FOLDER/train/CLASS/picture.jpg with val/ and test/ beside train/.
Folders inside a class belong to that class. Hidden files and those that systems leave behind
(Thumbs.db, __MACOSX) do not exist here; every other file that is not used is reported.
"""

import dataclasses
import os
import pathlib
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from cifar_cnn.checks import UsageError, printable
from cifar_cnn.images import SUFFIXES, is_system_file

_SPLITS = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
_EXPECTED = (
    "expected FOLDER/CLASS/picture.jpg, or FOLDER/train/CLASS/picture.jpg with val/ and test/ "
    "beside train/"
)
_SHOWN = 10
_LONGEST = 300  # Characters of a file's name in a note.


@dataclasses.dataclass(frozen=True, order=True)
class Picture:
    """A file that should be a picture.

    Attributes:
      label: of its class.
      name: below its split's folder, as the file system has it: 'CLASS/.../FILE'.
      path: that opens it.
      size: bytes.
      mtime: of its content, nanoseconds.
    """

    label: int
    name: str
    path: str
    size: int
    mtime: int


@dataclasses.dataclass(frozen=True)
class Layout:
    """Attributes:
    folder: of everything.
    class_names: one name a class, printable; the label is the position.
    splits: 'train', and where they are there 'validation' and 'test'; sorted by class and name.
    divided: whether there is a folder train/.
    notes: what the user should know, one line each.
    """

    folder: pathlib.Path
    class_names: tuple[str, ...]
    splits: dict[str, tuple[Picture, ...]]
    divided: bool
    notes: tuple[str, ...]


def read_layout(folder: str | os.PathLike) -> Layout:
    """Lists a folder of pictures; opens none of them.

    Classes are those of the training part, sorted by name as Keras and PyTorch do; if all names are
    whole numbers, by their value, so that '10' comes after '2'. A class may be missing in val/ or
    test/, which is noted.

    Raises:
      UsageError: not a folder of class folders with pictures, fewer than two classes, a class
        without pictures, or one that only val/ or test/ has.
    """
    root = pathlib.Path(folder)
    _check_folder(root)
    roots, odd = _find_splits(root)
    found = {split: _find_classes(root, path, odd) for split, path in roots.items()}
    class_names = _class_names(roots, found["train"])
    splits, notes = {}, list(_same_but_for_case(class_names))
    for split, classes in found.items():
        pictures = {name: _find_pictures(root, classes[name], odd) for name in classes}
        full = [name for name in class_names if pictures.get(name)]
        missing = [name for name in class_names if not pictures.get(name)]
        if missing and split == "train":
            raise UsageError(
                f"there is no picture in the class folder{'s' * (len(missing) > 1)} "
                f"{in_short(missing)} of {printable(roots[split])}: put some there, or delete it"
            )
        _check_known(roots[split], pictures, class_names)
        if not full:
            raise UsageError(f"there is no picture in {printable(roots[split])}: {_EXPECTED}")
        if missing:
            notes.append(f"note: {printable(roots[split])} has no picture of {in_short(missing)}")
        splits[split] = tuple(
            sorted(
                Picture(label, *about)
                for label, name in enumerate(class_names)
                for about in pictures.get(name, ())
            )
        )
    if odd:
        notes.append(f"note: not used, as they are no pictures ({len(odd):,}): {in_short(odd)}")
    return Layout(root, class_names, splits, roots["train"] != root, tuple(notes))


def in_short(names: Sequence[str]) -> str:
    """The first ten names, and how many more there are."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _check_folder(root: pathlib.Path) -> None:
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise UsageError(
            f"the folder of pictures {printable(root)} {what}: give data.folder its path, or "
            "name the place that it has moved to (--data_dir, in training --config.run.data_dir)"
        )


def _list(folder: str | os.PathLike) -> tuple[list[os.DirEntry], list[os.DirEntry]]:
    """Folders, and everything else, that people see in a folder; sorted."""
    try:
        with os.scandir(folder) as entries:
            seen = sorted((e for e in entries if not is_system_file(e.name)), key=lambda e: e.name)
    except OSError as error:
        raise UsageError(f"{printable(folder)} cannot be read: {error.strerror}") from error
    folders = [entry for entry in seen if os.path.isdir(entry.path)]
    return folders, [entry for entry in seen if not os.path.isdir(entry.path)]


def _find_splits(root: pathlib.Path) -> tuple[dict[str, pathlib.Path], list[str]]:
    """The folder of every split, 'train' first, and the files that lie beside them.

    A folder called train or test is a split if it holds folders: it may also be a class of its
    own, as trains are among vehicles.
    """
    folders, files = _list(root)
    if not folders:
        pictures = sum(os.path.splitext(e.name)[1].lower() in SUFFIXES for e in files)
        what = f"{pictures:,} pictures but no class folders" if pictures else "no class folders"
        raise UsageError(f"{printable(root)} has {what}: {_EXPECTED}")
    named = [entry for entry in folders if entry.name.lower() in _SPLITS]
    others = [entry for entry in folders if entry.name.lower() not in _SPLITS]
    divided = [entry for entry in named if _list(entry.path)[0]]
    if not named or (others and not divided):
        return {"train": root}, []
    used = [entry for entry in others if _holds_pictures(entry.path)]
    if used:
        raise UsageError(
            f"{printable(root)} has {in_short([e.name + '/' for e in named])} and beside it other "
            f"folders with pictures, {in_short([printable(e.name) for e in used])}: move class "
            "folders into train/, and others elsewhere"
        )
    odd = [printable(e.name) for e in files] + [printable(e.name) + "/" for e in others]
    roots: dict[str, pathlib.Path] = {}
    for split in ("train", "validation", "test"):
        candidates = [entry for entry in named if _SPLITS[entry.name.lower()] == split]
        if len(candidates) > 1:
            raise UsageError(
                f"{printable(root)} has {' and '.join(e.name + '/' for e in candidates)} for the "
                f"same part: keep one of them"
            )
        for entry in candidates:
            if not _list(entry.path)[0]:
                raise UsageError(f"{printable(entry.path)} has no class folders: {_EXPECTED}")
            roots[split] = root / entry.name
    if "train" not in roots:
        have = " and ".join(path.name + "/" for path in roots.values())
        raise UsageError(f"{printable(root)} has {have} but no train/: {_EXPECTED}")
    return roots, odd


def _holds_pictures(folder: str) -> bool:
    return any(os.path.splitext(name)[1].lower() in SUFFIXES for _, name in _walk(folder))


def _find_classes(
    root: pathlib.Path, split_root: pathlib.Path, odd: list[str]
) -> dict[str, tuple[str, ...]]:
    """Class name -> its folders: two where a name is there in two Unicode spellings."""
    folders, files = _list(split_root)
    odd += [printable(os.path.relpath(entry.path, root)) for entry in files]
    classes: dict[str, tuple[str, ...]] = {}
    for entry in folders:
        # macOS spells e-acute as two characters, others as one: they look the same.
        name = printable(unicodedata.normalize("NFC", entry.name))
        classes[name] = (*classes.get(name, ()), entry.path)
    return classes


def _class_names(roots: dict[str, pathlib.Path], classes: Iterable[str]) -> tuple[str, ...]:
    names = list(classes)
    if len(names) < 2:
        root = roots["train"]
        inner = [e.name for e in _list(root / names[0])[0]] if names else []
        hint = f" (or is it {printable(root)}/{names[0]} that you mean?)" if inner else ""
        raise UsageError(
            f"{printable(root)} has one class folder, {names[0]}, expected at least two: "
            f"{_EXPECTED}{hint}"
        )
    if all(name.isascii() and name.isdigit() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _same_but_for_case(names: Sequence[str]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            yield f"note: {other} and {name} are two classes, though only capitals tell them apart"


def _check_known(root: pathlib.Path, pictures: dict[str, list], class_names: Sequence[str]) -> None:
    """Raises UsageError for classes that the training part does not have."""
    unknown = [name for name, found in pictures.items() if found and name not in class_names]
    if unknown:
        by_case = {name.casefold(): name for name in class_names}
        near = [by_case[n.casefold()] for n in unknown if n.casefold() in by_case]
        hint = f" (did you mean {in_short(near)}?)" if near else ""
        raise UsageError(
            f"{printable(root)} has {in_short(unknown)}, which the training part does not "
            f"have{hint}: use the same class folders everywhere"
        )


def _walk(folder: str) -> Iterator[tuple[os.DirEntry | None, str]]:
    """Every file below a folder and its name there; each folder once, however many links.

    Where a link leads to a folder that was read already, None stands for the entry.
    """
    stack, seen = [(folder, "")], set()
    while stack:
        path, prefix = stack.pop()
        try:
            about = os.stat(path)
        except OSError as error:
            raise UsageError(f"{printable(path)} cannot be read: {error.strerror}") from error
        if (about.st_dev, about.st_ino) in seen:
            yield None, prefix
            continue
        seen.add((about.st_dev, about.st_ino))
        folders, files = _list(path)
        stack += [(entry.path, f"{prefix}{entry.name}/") for entry in folders]
        yield from ((entry, prefix + entry.name) for entry in files)


def _find_pictures(
    root: pathlib.Path, folders: Sequence[str], odd: list[str]
) -> list[tuple[str, str, int, int]]:
    """Name, path, size and time of change of the files of a class that may be pictures."""
    found = []
    for folder in folders:
        for entry, inner in _walk(folder):
            shown = printable(f"{os.path.relpath(folder, root)}/{inner}")[:_LONGEST]
            suffix = os.path.splitext(inner)[1].lower()
            if entry is None:
                odd.append(f"{shown} (a link to a folder that is read already)")
            elif not os.path.exists(entry.path):
                why = "a link to nothing" if entry.is_symlink() else "cannot be opened: too deep?"
                odd.append(f"{shown} ({why})")
            elif not os.path.isfile(entry.path):
                odd.append(f"{shown} (a pipe, socket or device)")
            elif suffix and suffix not in SUFFIXES:
                odd.append(shown)
            else:
                about = entry.stat()
                name = f"{os.path.basename(folder)}/{inner}"
                found.append((name, entry.path, about.st_size, about.st_mtime_ns))
    return found
