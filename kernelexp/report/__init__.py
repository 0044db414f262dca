"""Figures, tables and a page from the tracking store; knows neither PyTorch nor the solvers."""
