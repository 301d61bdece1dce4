"""Reports of what was measured: plots, tables, verdicts, and the register of claims."""

from softprompt.reporting.contents import make_report
from softprompt.reporting.curves import draw_curves
from softprompt.reporting.evidence import make_register
from softprompt.reporting.opening import Study, open_study
from softprompt.reporting.writing import write_report, write_text

__all__ = ["Study", "draw_curves", "make_register", "make_report", "open_study", "write_report", "write_text"]
