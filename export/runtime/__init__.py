"""Drawing with ONNX Runtime: neither torch nor onnx is imported.

sampler      `OnnxSampler`
providers    what computes, and whether it really does
engines      how a session is run
"""
