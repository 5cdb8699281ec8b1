"""litellm, imported once with the environment it must find; nothing else imports it directly.

Without the first line it would fetch its price map over the network when it is imported.
"""

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["LITELLM_MODE"] = "PRODUCTION"
os.environ.setdefault("AIOHTTP_CONNECTOR_LIMIT_PER_HOST", "4096")

import litellm

litellm.suppress_debug_info = True
litellm.drop_params = True
litellm.telemetry = False
litellm.turn_off_message_logging = True
litellm.disable_streaming_logging = True

__all__ = ["litellm"]
