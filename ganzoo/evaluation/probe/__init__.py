"""The probe: linear classifiers on what a discriminator, or any other extractor, makes of images."""
