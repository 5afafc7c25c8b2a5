"""Gradients fall by orders of magnitude over depth."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from gradscope.analyzer import Analyzer
from gradscope.findings import Finding, Severity
from gradscope.records import Kind, Recording
from gradscope.trends import Limits, Slope, slope

FLAT = frozenset({"Sigmoid", "LogSigmoid", "Hardsigmoid", "Tanh", "Hardtanh", "Softsign", "Tanhshrink"})


@dataclass(frozen=True)
class VanishingGradient(Analyzer):
    """Gradients shrink steadily on their way back, so that the first layers hardly learn.

    ## What it means
    Backpropagation multiplies one local derivative per layer. Where most of them are well below 1 the product
    dies out: a sigmoid contributes at most 0.25, and a linear layer with a small initialisation less than 1.

    ## Why it matters
    The first layers get updates millions of times smaller than the last ones and stay close to random, which
    the layers above them cannot make up for.

    ## How it is measured
    Within one backward, the gradients with respect to the outputs of the modules are compared over depth. Both
    their root mean square and their norm must fall by `fall` from the later to the earlier half, in nearly
    perfect order and spread over many layers, in each of the last `steps` observed steps.

    ## What it is not
    A converged model (all layers fall together), a large vocabulary or image (many elements make the root mean
    square small, but not the norm), LoRA with B = 0 and zero-initialised residual branches (exact zeros, or low
    branches beside a healthy trunk), a tiny loss weight or temperature (one jump instead of a slope), frozen and
    detached layers (no gradient is not a small one), recurrent layers (one site for all time steps).

    ## How to fix it
    Use ReLU or GELU, normalisation or residual connections, and an initialisation made for the activation
    (`torch.nn.init.kaiming_normal_` for ReLU, `xavier_normal_` for tanh).

    ## Fires on
    >>> from gradscope.testing import recording
    >>> layers = {f"fc{i}": 16.0 ** (i - 7) for i in range(8)}
    >>> for found in VanishingGradient().analyze(recording(activation_gradient=layers)):
    ...     print(found)
    WARNING  vanishing-gradient   since step 0   3 of 8 modules
             the gradient shrinks 3e+08-fold on its way back from 'fc7' to 'fc0'
             measured: rms 1.0e+00 at 'fc7', 3.7e-09 at 'fc0', limit 1e+05-fold; steepest: times 0.06 across 'fc1'
             why: the first layers get updates far too small to learn from
             fix: initialise for the activation (kaiming, xavier), or add residual connections or normalisation

    ## Silent on
    >>> list(VanishingGradient().analyze(recording(activation_gradient={f"fc{i}": 1e-9 for i in range(8)})))
    []

    ## Sources
    - Bengio, Simard and Frasconi, "Learning Long-Term Dependencies with Gradient Descent is Difficult", 1994.
    - Glorot and Bengio, "Understanding the Difficulty of Training Deep Feedforward Neural Networks", AISTATS 2010.
    - He et al., "Delving Deep into Rectifiers", ICCV 2015.
    """

    severity: ClassVar[Severity] = Severity.WARNING
    needs: ClassVar[frozenset[Kind]] = frozenset({Kind.ACTIVATION_GRADIENT})

    fall: float = field(
        default=1e5,
        metadata={"unit": "ratio", "reason": "small networks that train stay below 1e4, those that do not above 5e5"},
    )
    least_sites: int = field(
        default=4, metadata={"unit": "modules", "reason": "fewer points are no slope, only a difference"}
    )
    correlation: float = field(
        default=0.9,
        metadata={
            "unit": "rank correlation",
            "reason": "residual networks, where depth does not matter, stay below 0.6",
        },
    )
    share: float = field(
        default=0.5,
        metadata={"unit": "share of the decades", "reason": "a single jump comes from a scale factor, not from depth"},
    )
    steps: int = field(default=3, metadata={"unit": "observed steps", "reason": "one odd batch proves nothing"})

    def analyze(self, recording: Recording) -> Iterator[Finding]:
        """At most one finding."""
        limits = Limits(self.fall, self.least_sites, self.correlation, self.share, self.steps)
        steady = slope(recording, "falls", limits)
        if steady is None:
            return
        (first, low), (last, high) = steady.ends
        faint = steady.rms < high / self.fall
        sites = tuple(site.path for site, chosen in zip(steady.sites, faint, strict=True) if chosen)
        yield self.finding(
            step=steady.start,
            message=f"the gradient shrinks {high / low:.0e}-fold on its way back from {last!r} to {first!r}",
            evidence=f"rms {high:.1e} at {last!r}, {low:.1e} at {first!r}, limit {self.fall:.0e}-fold; "
            f"steepest: times {steady.gain:.1g} across {steady.steepest!r}",
            why="the first layers get updates far too small to learn from",
            fix=_fix(steady),
            sites=sites,
            scope=f"{len(sites)} of {len(steady.sites)} modules",
        )


def _fix(steady: Slope) -> str:
    flat = sorted({site.module_type for site in steady.sites} & FLAT)
    first = f"replace {', '.join(flat)} by ReLU or GELU" if flat else "initialise for the activation (kaiming, xavier)"
    return f"{first}, or add residual connections or normalisation"
