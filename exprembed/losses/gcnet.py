"""GCNet's objective: five terms, each of them reported."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from exprembed.errors import BadInputError
from exprembed.losses import LOSSES
from exprembed.losses._base import ExpressionLoss, Term, check_batch, full_precision, not_negative, per_face, whole


@LOSSES.register("gcnet")
class GCNetLoss(ExpressionLoss):
    r"""Classify the delta, generate the reference, contrast the codes, and rebuild both images.

    L = Cls + lambda_G Gen + lambda_S Contr + lambda_Ri Recon_i + lambda_Rr Recon_r, for each face

    - Cls = -log softmax(z)_y
    - Gen = 1/2 ||Xr - G||^2
    - Contr = 1/2 max(0, m - S)^2 if y != y_r, else 1/2 S^2;  S = ||En(X) - En(G)||
    - Recon_i = 1/2 ||X - De(En(X))||^2,  Recon_r = 1/2 ||Xr - De(En(G))||^2

    Symbols: z (B, C) logits of the delta, y (B,) class numbers, y_r the class of the reference (neutral); X, Xr, G (B, ...)
    image, its person's reference and the generated reference, in one range; En(.) (B, ...) codes, flattened here; squared
    norms run over all pixels or code elements of a face; m > 0. Every term is at least 0.

    Paper: Kim et al. (2019), equations (4) to (9), lambda_S = lambda_G = 1 and lambda_R = 1/4 each. Deviations: the default
    reducer averages each term over the batch; the gradient of S is zero where both codes coincide. A variant leaves terms
    out by leaving their arguments out: S0 `codes`, R0 `reconstructions`.

    Args:
        margin: m.
        lambda_generation: lambda_G.
        lambda_contrastive: lambda_S.
        lambda_reconstruction: lambda_Ri and lambda_Rr, one number or two.
        neutral: y_r where the call does not give one.
        kwargs: pytorch-metric-learning's `reducer`, ...

    Call: `loss(z, y, images=, references=, generated=, codes=(En(X), En(G)), reconstructions=(De(En(X)), De(En(G))),
    reference_labels=None)`; `loss.breakdown` then holds "classification", "generation", "contrastive",
    "reconstruction_image" and "reconstruction_reference", weights included.

    Raises:
        WrongUseError: a negative margin or weight.
        BadInputError: shapes that do not fit, labels that are no class numbers.

    Example:
        >>> loss, face = GCNetLoss(margin=1.0), torch.zeros(1, 1, 2, 2)
        >>> total = loss(torch.zeros(1, 2), torch.tensor([1]), images=face, references=face, generated=face + 1)
        >>> total.round(decimals=4), loss.breakdown["generation"]
        (tensor(2.6931), tensor(2.))
    """

    TERMS = ("classification", "generation", "contrastive", "reconstruction_image", "reconstruction_reference")

    def __init__(
        self,
        margin: float = 1.0,
        lambda_generation: float = 1.0,
        lambda_contrastive: float = 1.0,
        lambda_reconstruction: float | tuple[float, float] = 0.25,
        neutral: int = 0,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        both = lambda_reconstruction
        image, reference = both if isinstance(both, tuple | list) else (both, both)
        not_negative(
            margin=margin,
            lambda_generation=lambda_generation,
            lambda_contrastive=lambda_contrastive,
            lambda_reconstruction=min(image, reference),
        )
        super().__init__(**kwargs)
        self.margin, self.neutral = margin, neutral
        weights = (1.0, lambda_generation, lambda_contrastive, image, reference)
        self.weights = dict(zip(self.TERMS, weights, strict=True))

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        images: Tensor,
        references: Tensor,
        generated: Tensor,
        codes: tuple[Tensor, Tensor] | None = None,
        reconstructions: tuple[Tensor, Tensor] | None = None,
        reference_labels: Tensor | None = None,
    ) -> Tensor:
        """Return the loss; the terms are in `breakdown`."""
        y = check_batch(logits, labels, logits.shape[-1], name="logits")
        for name, pictures in (("references", references), ("generated", generated)):
            if pictures.shape != images.shape:
                raise BadInputError(f"{name} must be as images, {tuple(images.shape)}; got {tuple(pictures.shape)}")
        if len(images) != len(y):
            raise BadInputError(f"images must be of {len(y)} faces, as the logits; got {len(images)}")
        values = {
            "classification": functional.cross_entropy(full_precision(logits)[0], y, reduction="none"),
            "generation": _half_square(references, generated),
        }
        if codes is not None:
            neutral = torch.full_like(y, self.neutral) if reference_labels is None else reference_labels.to(y)
            if neutral.shape != y.shape:
                raise BadInputError(f"reference_labels must be {tuple(y.shape)}; got {tuple(neutral.shape)}")
            values["contrastive"] = self._contrast(*codes, y != neutral)
        if reconstructions is not None:
            values["reconstruction_image"] = _half_square(images, reconstructions[0])
            values["reconstruction_reference"] = _half_square(references, reconstructions[1])
        terms: dict[str, Term] = {name: whole(0) for name in self.TERMS}
        terms |= {name: per_face(self.weights[name] * value) for name, value in values.items()}
        return self.reduced(terms, logits, y)

    def _contrast(self, code: Tensor, generated_code: Tensor, differ: Tensor) -> Tensor:
        a, b = full_precision(code.flatten(1), generated_code.flatten(1))
        if a.shape != b.shape or len(a) != len(differ):
            raise BadInputError(
                f"the two codes must be of one shape, ({len(differ)}, ...); got {tuple(code.shape)}, "
                f"{tuple(generated_code.shape)}"
            )
        distances = torch.linalg.vector_norm(a - b, dim=1)
        return torch.where(differ, (self.margin - distances).clamp(min=0), distances).square() / 2


def _half_square(target: Tensor, image: Tensor) -> Tensor:
    """Return 1/2 ||target - image||^2 of each face, (B,)."""
    if target.shape != image.shape:
        raise BadInputError(f"a rebuilt image must be as its target, {tuple(target.shape)}; got {tuple(image.shape)}")
    a, b = full_precision(target, image)
    return (a - b).flatten(1).square().sum(dim=1) / 2
