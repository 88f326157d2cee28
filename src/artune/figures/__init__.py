"""Figures of the paper, each drawn from files alone; a figure's kind in ``config/figures.yaml`` names its module."""
