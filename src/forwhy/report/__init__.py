"""report.html: one page without network, of any number of runs or files of outputs.

matplotlib and Jinja2 are imported when a page is written (`pip install 'forwhy[report]'`).
"""

from forwhy.report.page import write_report

__all__ = ["write_report"]
