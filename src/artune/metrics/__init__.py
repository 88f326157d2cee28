"""Maths of the evaluation: features in, numbers out. Imports nothing else of this project.

- fid: Fréchet distance, its jackknife standard error, moments of features
- kid: kernel distance
- inception_score: Inception Score
- precision_recall: improved Precision and Recall
- density_coverage: Density and Coverage
- cmmd: kernel distance of CLIP embeddings
- realism: realism score
- student: error of a mean over few seeds, by Student's t
- distances: sums, neighbours and balls of wide features, in float32 where that decides
- jackknife: standard error from leave-one-out values
- cross_spectrum: directions that samples and a reference have in common, of many samples and of few
- trace_sqrt: traces of matrix square roots when one sample leaves a covariance
"""
