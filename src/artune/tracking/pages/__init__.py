"""What MLflow's pages lack of WCAG's rule AA.

- app: MLflow's pages with aids.css (contrast, a visible focus) and aids.js (the keyboard)
"""
