"""What MLflow's pages lack of WCAG's rule AA: ``app`` serves them with ``aids.css`` (contrast, a visible focus) and ``aids.js``."""
