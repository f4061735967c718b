"""Arrays in, arrays out: entropies, autocorrelation times, gradient noise, temperatures."""
