"""The implied volatility surface of a chain: raw SVI slices fitted together, and a certificate of what is left."""

from ots_quant.surface.build import LEAST_STRIKES, Shape, fit_surface
from ots_quant.surface.certificate import Certificate, Violations
from ots_quant.surface.model import Surface, TermStructure
from ots_quant.surface.quotes import LeftOut
from ots_quant.surface.slices import Slices, Variance

__all__ = [
    "LEAST_STRIKES",
    "Certificate",
    "LeftOut",
    "Shape",
    "Slices",
    "Surface",
    "TermStructure",
    "Variance",
    "Violations",
    "fit_surface",
]
