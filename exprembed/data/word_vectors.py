"""Vectors of single words from GloVe and word2vec files, which hold millions of them."""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from exprembed.errors import BadInputError


def read_word_vectors(path: str | Path, words: Sequence[str]) -> np.ndarray:
    r"""Return the vectors of a few words from a file of word vectors.

    The file is passed through once, as far as the last of the words, and nothing else of it is kept. GloVe's text files
    ("happy 0.1 0.2 ...", no header), word2vec's text files (a header "words width") and, with the suffix .bin,
    word2vec's binary ones are read. Of a word that stands there twice the first vector counts.

    Args:
        path: the file, unpacked.
        words: the words, spelled as in the file.

    Returns:
        (len(words), d) float64, in the order of `words`.

    Raises:
        BadInputError: no such file, a packed or broken one, a word that it lacks, a vector that is no row of finite
            numbers, vectors of different widths.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "glove.txt"
        ...     _ = file.write_text("happy 1 2.5\nthe 0 0\nsad -1 0\n")
        ...     read_word_vectors(file, ["sad", "happy"]).tolist()
        [[-1.0, 0.0], [1.0, 2.5]]
    """
    file = Path(path)
    if not file.is_file():
        raise BadInputError(f"there is no file of word vectors {file}")
    wanted = {word.encode(): word for word in words}
    entries = _binary_entries if file.suffix == ".bin" else _text_entries
    found: dict[str, np.ndarray] = {}
    for key, vector in entries(file, wanted):
        found.setdefault(wanted[key], vector)
        if len(found) == len(wanted):
            break
    missing = [word for word in words if word not in found]
    if missing:
        raise BadInputError(
            f"{file} has no vector for {', '.join(missing)}; a text file of lines 'word number number ...' is due, or "
            "word2vec's binary format with the suffix .bin"
        )
    widths = {word: len(found[word]) for word in words}
    if len(set(widths.values())) > 1 or 0 in widths.values():
        raise BadInputError(f"{file} has vectors of different or no width: {widths}")
    vectors = np.stack([found[word] for word in words])
    if not np.isfinite(vectors).all():
        word = words[int(np.argmin(np.isfinite(vectors).all(axis=1)))]
        raise BadInputError(f"{file}: the vector of {word!r} holds a number that is not finite")
    return vectors


def _text_entries(file: Path, wanted: Collection[bytes]) -> Iterator[tuple[bytes, np.ndarray]]:
    """Yield the wanted words of a text file with their vectors; only their lines are parsed."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            word, _, rest = line.partition(b" ")
            if word in wanted:
                try:
                    yield word, np.array([float(entry) for entry in rest.split()])
                except ValueError as error:
                    raise BadInputError(f"{file}, line {number}: {word.decode()!r} has no row of numbers") from error


def _binary_entries(file: Path, wanted: Collection[bytes]) -> Iterator[tuple[bytes, np.ndarray]]:
    """Yield the wanted words of a word2vec binary file: a header line, then word, space, d float32 for each word."""
    if not file.stat().st_size:
        raise BadInputError(f"{file} is empty")
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        header = stream.readline(100)
        try:
            count, width = (int(entry) for entry in header.split())
        except ValueError as error:
            raise BadInputError(f"{file} does not begin with 'words width', as word2vec's binary files do") from error
        place, length = len(header), 4 * width
        for _ in range(count):
            stop = content.find(b" ", place)
            if width < 1 or stop < 0 or stop + 1 + length > len(content):
                raise BadInputError(f"{file} is cut off: its header names {count} words of {width} numbers")
            word = content[place:stop].lstrip(b"\n")  # some writers end an entry with a line break
            place = stop + 1 + length
            if word in wanted:
                yield word, np.frombuffer(content[stop + 1 : place], "<f4").astype(np.float64)
