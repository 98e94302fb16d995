"""Drawing exported files without torch.

exported     what all samplers of such files share: checks, and images in one form
sampler      `OnnxSampler`, with ONNX Runtime: onnx is not imported either
providers    what computes, and whether it really does
engines      how a session is run
openvino     `OpenVINOSampler`, with OpenVINO
"""
