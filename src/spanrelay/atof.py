"""The former place of `exporters.atof`, the exporter `atof`: programs import it by this name.

Says nothing of its own.
"""

from spanrelay.exporters.atof import AtofSpanExporter

__all__ = ["AtofSpanExporter"]
