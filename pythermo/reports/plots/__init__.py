"""Interactive plots of pages: sweeps in, plotly Figures out."""
