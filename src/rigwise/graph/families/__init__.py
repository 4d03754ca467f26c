"""Configurations of the commonest model families, turned into graphs without PyTorch.

For each family a *template* comes with the package: the graphs that capture gave, with every number
that follows from the configuration replaced by a formula in its sizes. So an answer is a look-up
and some arithmetic.

    checks.py      what no configuration may say, whoever reads it
    config.py      a configuration while it is read: sizes become numbers, other choices marks
    decoders.py    the families, one function each: which keys are sizes, and what follows from them
    encoders.py    the same for encoders, and for models of two towers
    template.py    a template and numbers become a model
    resolve.py     from a configuration to its model, or to what no template covers

``tools/build_families.py`` writes the templates. A template answers exactly the choices that it was
captured with: the head, and every key that is neither a size nor known to change nothing, unless it
has transformers' own default. Anything else is left to capture, never guessed.
"""
