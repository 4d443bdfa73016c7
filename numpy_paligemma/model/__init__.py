"""The formulas: PaliGemma as functions of arrays, on NumPy alone."""
