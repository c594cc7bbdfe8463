"""The evaluation of representations: k-NN, linear classification, and measures of their spread."""
