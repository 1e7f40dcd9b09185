"""A support vector machine on embeddings, as the thesis trains one behind its networks."""

from __future__ import annotations

import importlib
from typing import Any

from exprembed.errors import WrongUseError, unknown_name


def svm_classifier(C: float = 1.0, kernel: str = "rbf", device: str = "cpu", balanced: bool = False) -> Any:  # noqa: ANN401 - a Pipeline
    """Return an untrained support vector machine on standardised vectors: scikit-learn's Pipeline of scaler and SVC.

    min_w,b 1/2 ||w||^2 + C sum_i max(0, 1 - y_i (w . phi(x_i) + b)), one classifier for each pair of classes, which vote.

    Symbols: x (n, d) the vectors, each number shifted and scaled to mean 0 and deviation 1 over the training faces; phi the
    map of the kernel. Fitting takes time that grows as n^2 to n^3: minutes at 30,000 faces.

    Paper: Antoniadis, NTUA thesis 2021, section 5.5 and Table 5.4. It gives neither kernel nor C: ours are scikit-learn's.

    Args:
        C: weight of the errors, above 0.
        kernel: "rbf", "linear", "poly" or "sigmoid".
        device: "cpu" for scikit-learn; "cuda" for RAPIDS cuML, which has to be installed.
        balanced: let the errors of a rare class weigh more, so that all classes count alike.

    Raises:
        WrongUseError: C not above 0, an unknown kernel or device, "cuda" without cuML.

    Example:
        >>> svm = svm_classifier().fit([[0.0], [0.1], [1.0], [1.1]], ["fear", "fear", "joy", "joy"])
        >>> svm.predict([[0.2], [0.9]]).tolist()
        ['fear', 'joy']
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    if not C > 0:
        raise WrongUseError(f"C must be above 0; got {C}")
    if kernel not in (kernels := ("rbf", "linear", "poly", "sigmoid")):
        raise unknown_name("kernel", kernel, kernels)
    if device not in ("cpu", "cuda"):
        raise unknown_name("device", device, ("cpu", "cuda"))
    machine: Any = SVC
    if device == "cuda":
        try:
            machine = importlib.import_module("cuml.svm").SVC
        except ImportError as error:
            raise WrongUseError(
                "device='cuda' needs RAPIDS cuML, which is not installed; 'cpu' needs nothing"
            ) from error
    return make_pipeline(StandardScaler(), machine(C=C, kernel=kernel, class_weight="balanced" if balanced else None))
