"""Packing: any source becomes a pack, once. The pack is whole or absent, and found again by what was asked and what was read.

Images are decoded by threads (Pillow decodes and resamples without holding Python's lock, and threads need no picklable sources and no
guarded main module) and written in order as they come, so that memory stays bounded whatever the number of images.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ganzoo import __version__
from ganzoo.data.images import quiet_decoders, render
from ganzoo.data.packs import IMAGES, LABELS, MANIFEST, SCHEMA_VERSION, Pack, PackManifest, images_header, is_pack, label_bytes
from ganzoo.data.request import DataRequest
from ganzoo.data.sources.base import SkippedImage, Source
from ganzoo.data.specs import open_source
from ganzoo.errors import DataError, GanzooError
from ganzoo.files import atomic_folder, cache_home, leftovers, locked, remove_leftovers
