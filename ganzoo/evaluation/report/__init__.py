"""Reports of evaluations: a table for the terminal, one self-contained page, and numbers in a model's card."""

from ganzoo.evaluation.report.model_card import save_to_card
from ganzoo.evaluation.report.pictures import ReportPictures
from ganzoo.evaluation.report.rows import TABLE_HEAD, protocol_line, table_rows
from ganzoo.evaluation.report.writing import write_report

__all__ = ["TABLE_HEAD", "ReportPictures", "protocol_line", "save_to_card", "table_rows", "write_report"]
