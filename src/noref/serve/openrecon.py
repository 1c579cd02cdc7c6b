"""The label by which Siemens' Open Recon knows a container. Not tried on a scanner."""

from __future__ import annotations

import re

from noref.serve.wire import PORT
from noref.version import __version__

KEY = "com.siemens-healthineers.magneticresonance.openrecon.metadata:1.1.0"
"""The name of the container's label, whose value is the JSON in base64."""

MEMORY = 8192
"""MiB that a container should be given."""


def label(made: str, *, gpu: bool = False) -> dict[str, object]:
    """The label of a container that serves a model: raw data come in, images go out.

    What regulators ask of a product is left empty, for this is none: its content is for research.

    Args:
        made: the model's name, for people.
        gpu: whether the container needs a GPU.
    """
    name = f"noref, {made}"
    identity = re.sub("[^a-z0-9]", "", f"noref{made}".lower())
    empty = ("manufacturer_address", "made_in", "manufacture_date", "gtin", "udi", "safety_advices")
    return {
        "general": {
            "name": {"en": name},
            "version": re.sub(r"^(\d+\.\d+\.\d+).*$", r"\1", __version__),
            "vendor": "noref",
            "information": {"en": f"Research only, not tried on a scanner. Reconstruction: {made}."},
            "id": identity,
            "regulatory_information": {
                "device_trade_name": name,
                "production_identifier": __version__,
                "material_number": f"{identity}_{__version__}",
                "special_operating_instructions": "Research only.",
                "additional_relevant_information": "",
                **dict.fromkeys(empty, ""),
            },
        },
        "reconstruction": {
            "transfer_protocol": {"protocol": "ISMRMRD", "version": "1.4.1"},
            "port": PORT,
            "emitter": "raw",
            "injector": "image",
            "can_process_adjustment_data": False,
            "can_use_gpu": gpu,
            "min_count_required_gpus": int(gpu),
            "min_required_gpu_memory": MEMORY if gpu else 0,
            "min_required_memory": MEMORY,
            "min_count_required_cpu_cores": 2,
            "content_qualification_type": "RESEARCH",
        },
        "parameters": [
            {
                "id": "config",
                "label": {"en": "config"},
                "type": "choice",
                "values": [{"id": "noref", "name": {"en": name}}],
                "default": "noref",
                "information": {"en": "The reconstruction."},
            }
        ],
    }
