"""A generator as one ONNX file, proven before it appears: what `ganzoo export --onnx` does.

exporting        the whole way
tracing          torch module → graph
passes           folded, rewritten, cleaned
half             float16
quantization     int8
outputs          pixels in the graph, metadata
parity           the proof, on the exact bytes
latency          how long both take
"""
