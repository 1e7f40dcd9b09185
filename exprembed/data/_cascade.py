"""The three networks of MTCNN over many pictures at once: each level of each size together, then all candidates together.

facenet-pytorch brings the networks and their weights. Its own loop cuts candidates out one by one, and pads what reaches
beyond the picture by cutting it off; here they are sampled together, and grey lies beyond the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.ops import batched_nms, box_iou

from exprembed.data._cuts import Cuts, cuts_of, framed
from exprembed.data._quick_layers import quickened

_CELL, _STRIDE = 12, 2  # the first network sees 12 x 12 pixels at each second pixel
_FACTOR = 0.709
_MARGIN = 6  # grey pixels around each level: a face may be cut off up to its middle
_LEAST_SIDE = 6  # of a level: a face may be twice as large as the picture
# Pixels that a network sees at once, a fourth for the wider ones: more calls cost more, larger maps leave the cache.
_STRIP = 1 << 18


class Candidates(NamedTuple):
    """What a stage leaves, of all pictures.

    Attributes:
        boxes: (n, 4) left, top, right, bottom in continuous pixels.
        moves: (n, 4) by which shares of width and height the stage would move the sides.
        scores: (n,) in [0, 1].
        owner: (n,) number of the picture.
        points: (n, 5, 2); only the last stage gives them.
    """

    boxes: Tensor
    moves: Tensor
    scores: Tensor
    owner: Tensor
    points: Tensor

    def some(self, which: Tensor | list[int]) -> Candidates:
        """Return some of them, by mask or by numbers."""
        return Candidates(*(one[which] for one in self))

    def thinned(self, limit: float) -> Candidates:
        """Keep the best of those whose intersection over union is above a limit."""
        return self.some(batched_nms(self.boxes, self.scores, self.owner, limit))

    def moved(self) -> Candidates:
        """Move the boxes."""
        return self._replace(boxes=self.boxes + self.moves * (self.boxes[:, 2:] - self.boxes[:, :2]).repeat(1, 2))

    def squares(self) -> Candidates:
        """Grow the boxes to squares about their middles."""
        middle = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2
        half = (self.boxes[:, 2:] - self.boxes[:, :2]).amax(dim=1, keepdim=True) / 2
        return self._replace(boxes=torch.cat([middle - half, middle + half], dim=1))


class Cascade:
    """MTCNN's proposal, refinement and output networks (Zhang et al. 2016).

    Args:
        networks: the three networks, in evaluation mode.
        device: where they run.
    """

    def __init__(self, networks: tuple[Any, Any, Any], device: str = "cpu") -> None:
        self.proposal, self.refinement, self.output = (quickened(network).to(device) for network in networks)
        self.device = torch.device(device)

    @torch.inference_mode()
    def __call__(self, pictures: Tensor, least: float, thresholds: tuple[float, float, float]) -> Candidates:
        """Return the faces of pictures of one size.

        Args:
            pictures: (N, H, W, 3) uint8 RGB.
            least: side of the smallest face in pixels.
            thresholds: scores that the three networks ask for.
        """
        pictures = pictures.to(self.device)
        pixels = pictures.permute(0, 3, 1, 2)  # channels stay beside each other
        cuts = cuts_of(pictures)
        found = self._proposals(pixels, least, thresholds[0]).thinned(0.7).moved().squares()
        found = self._judged(self.refinement, cuts, found, 24, thresholds[1]).thinned(0.7).moved().squares()
        found = self._judged(self.output, cuts, found, 48, thresholds[2]).moved()
        return found.some(_apart(found, 0.7))

    def _proposals(self, pixels: Tensor, least: float, threshold: float) -> Candidates:
        """Return what the first network takes for faces, at all sizes."""
        none = torch.zeros(0, 4, device=self.device)
        parts = [Candidates(none, none, none[:, 0], none[:, 0].long(), torch.zeros(0, 5, 2, device=self.device))]
        for level in _levels(pixels, _CELL / least):
            moves, likely = self._cells(level)
            owner, row, column = torch.where(likely[:, 1] >= threshold)
            step = torch.tensor([pixels.shape[i] / (level.shape[i] - 2 * _MARGIN) for i in (3, 2)]).to(self.device)
            corner = torch.stack([column, row], dim=1) * _STRIDE - _MARGIN
            boxes = torch.cat([corner * step, (corner + _CELL) * step], dim=1)
            points = boxes.new_zeros(len(boxes), 5, 2)
            found = Candidates(boxes, moves[owner, :, row, column], likely[owner, 1, row, column], owner, points)
            parts.append(found.thinned(0.5))
        return Candidates(*map(torch.cat, zip(*parts, strict=True)))

    def _cells(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Ask the first network of each cell, strip by strip."""
        height, width = level.shape[2:]
        rows = max(1, _STRIP // (_STRIDE * width))  # of cells
        strips = [  # each reaches into the next by what a cell sees beside its stride
            level[:, :, _STRIDE * row : _STRIDE * (row + rows) + _CELL - _STRIDE]
            for row in range(0, (height - _CELL + _STRIDE) // _STRIDE, rows)
        ]
        pictures = max(1, _STRIP // (height * width))
        parts = [[self.proposal(some) for some in torch.split(strip, pictures)] for strip in strips]
        moves, likely = (torch.cat([torch.cat([one[i] for one in part]) for part in parts], dim=2) for i in range(2))
        return moves, likely

    def _judged(
        self,
        network: Callable[[Tensor], tuple[Tensor, ...]],
        cuts: Cuts,
        found: Candidates,
        side: int,
        least: float,
    ) -> Candidates:
        """Ask a network of all candidates; return those that pass."""
        if not len(found.boxes):
            return found
        places = torch.cat([found.owner[:, None].float(), found.boxes], dim=1)
        answers = [network(cuts(some, side)) for some in torch.split(places, _STRIP // (4 * side**2))]
        moves, *shares, likely = (torch.cat(answer) for answer in zip(*answers, strict=True))
        points = found.points
        if shares:  # of the box: five x, then five y
            shares_xy = shares[0].view(-1, 2, 5).transpose(1, 2)
            points = found.boxes[:, None, :2] + shares_xy * (found.boxes[:, 2:] - found.boxes[:, :2])[:, None]
        return Candidates(found.boxes, moves, likely[:, 1], found.owner, points).some(likely[:, 1] > least)


def _levels(pixels: Tensor, scale: float) -> Iterator[Tensor]:
    """Yield the pictures at falling scales, normalised as the networks were trained, grey pixels around them."""
    height, width = pixels.shape[2:]
    while min(height, width) * scale >= _LEAST_SIDE:
        size = max(1, round(height * scale)), max(1, round(width * scale))
        yield framed(interpolate(pixels, size, mode="bilinear", antialias=True), _MARGIN)
        scale *= _FACTOR


def _apart(found: Candidates, limit: float) -> list[int]:
    """Return the numbers of the faces of which none covers `limit` of a better one, or the reverse, best first.

    Unlike by intersection over union, a small box inside a large one goes.
    """
    kept: list[int] = []
    overlap = box_iou(found.boxes, found.boxes)
    area = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(dim=1)
    both = overlap / (1 + overlap) * (area[:, None] + area[None])
    covers = (both > limit * torch.minimum(area[:, None], area[None])) & (found.owner[:, None] == found.owner[None])
    rows = covers.tolist()
    for one in found.scores.argsort(descending=True).tolist():
        if not any(rows[one][other] for other in kept):
            kept.append(one)
    return kept
