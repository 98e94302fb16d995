"""How fast a recipe trains on this machine, and how near that is to what the machine can do: `ganzoo bench train`.

measuring    the engines in turn, each in its own process
work         operations and bytes of a step, counted
roofs        what the device can do at most, measured
training     a training's process from inside
process      a process of measurements, from outside
serving      what all such processes do inside
"""
