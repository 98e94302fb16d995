"""Regularizers: whatever is added to a loss or done beside it, beyond objective and gradient penalties, with state.

`contract` says what a regularizer is; the others are ganzoo's own.
"""
