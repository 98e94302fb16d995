"""How fast a model draws, in torch and in ONNX Runtime: what `ganzoo bench sample` does.

measuring    the runtimes in turn, each in its own process
process      a runtime's process, from outside
worker       the same from inside
"""
