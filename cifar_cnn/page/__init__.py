"""One self-contained HTML page that explains a run: `write_page`.

`facts` says what the run is, `answers` what it gets right and wrong, `choice` which images are
shown, `sprite` holds them, `network` goes through the trained layers, `others` compares runs, and
`writing` puts all of it into the template. The page needs no server and no network: its pictures,
style and program are inside.
"""

from cifar_cnn.page.writing import write_page

__all__ = ["write_page"]
