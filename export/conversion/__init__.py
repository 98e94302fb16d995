"""Foreign checkpoints into models: what `ganzoo convert` does.

foreign, pickles              reading a checkpoint without running anything in it
layers, norms, chains         tensors → layers → a net of the DCGAN family
residual                      likewise, of the residual family
networks                      what every net that was read has
recognition, evidence         which architecture it is, and what names and shapes cannot tell
fitting                       a recipe that was named instead
planning, numbers, proof      what is converted, in which numbers, and that it draws
targets, converting           where it goes, and the whole of it
"""
