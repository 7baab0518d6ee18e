"""The grey-box Bayesian sampler, for any Optuna study."""
