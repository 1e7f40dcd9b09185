"""Photos and films in, face tables with vectors out: stages that overlap, in bounded memory, resumed where they were."""

from exprembed.pipeline.cuts import NamedFaces, SearchedFaces, WholeFaces
from exprembed.pipeline.job import Written, collect, embed, no_face, write
from exprembed.pipeline.store import ResultStore, digest_of
from exprembed.pipeline.stream import Chunk, Flow, stream
from exprembed.pipeline.tracks import Smoother, Tracker, overlap
from exprembed.pipeline.video import VIDEO_SUFFIXES, read_frames

__all__ = [
    "VIDEO_SUFFIXES",
    "Chunk",
    "Flow",
    "NamedFaces",
    "ResultStore",
    "SearchedFaces",
    "Smoother",
    "Tracker",
    "WholeFaces",
    "Written",
    "collect",
    "digest_of",
    "embed",
    "no_face",
    "overlap",
    "read_frames",
    "stream",
    "write",
]
