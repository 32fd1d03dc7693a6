"""The former place of `exporters.atif`, the exporter `atif`: programs import it by this name.

Says nothing of its own.
"""

from spanrelay.exporters.atif import AtifExporter

__all__ = ["AtifExporter"]
