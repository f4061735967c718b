"""What follows from a sweep's measurements: stationary values, regimes, temperatures."""
