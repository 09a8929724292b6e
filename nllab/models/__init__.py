"""The models that an experiment can name, known without loading torch.

A new model is its file and one line here. Its class offers `for_stream(experiment, features, classes, image_shape)` and
`levels()`; it may say `reads_tokens = True`, and offer `after_step(step)`, called once step `step` has been taken.
"""

REGISTRY = {  # name -> (module, class)
    "cms": ("classifier", "CMSClassifier"),
    "hope": ("hope", "HopeClassifier"),
    "mlp": ("mlp", "MLP"),
    "hope-lm": ("hope", "LanguageModel"),
}
