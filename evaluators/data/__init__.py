"""Data sets of images, text and sentences: files, batches, augmentation and scoring."""
