"""What was measured, shown: tables for a terminal, and report.html, one page without network."""

from forwhy.report.page import check_page, write_report
from forwhy.report.terminal import render, render_examined

__all__ = ["check_page", "render", "render_examined", "write_report"]
