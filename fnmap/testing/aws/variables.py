"""What a process environment finds in `os.environ`."""

from __future__ import annotations

import os
import time
from pathlib import Path

from fnmap.testing.aws.functions import Config
from fnmap.testing.aws.settings import Settings


def environ(config: Config, settings: Settings, number: int, tmp: Path, runtime_api: str) -> dict[str, str]:
    """The variables of an environment: those of Lambda, of the service, and the function's own."""
    stream = time.strftime("%Y/%m/%d", time.gmtime()) + f"/[$LATEST]{number:032x}"
    task = str(config.code.root)
    given = {**settings.extra_env, **config.variables}
    layers = [layer.code.root / "python" for layer in reversed(config.layers)]  # a later one hides an earlier
    python = f"lib/{config.fields['Runtime']}/site-packages"
    runtime = str(settings.root / "runtime")
    path = [task, *(str(folder / part) for folder in layers for part in (python, "")), runtime]
    path[1:1] = filter(None, [config.variables.get("PYTHONPATH")])
    logging = config.fields.get("LoggingConfig", {})
    return {
        "AWS_ACCESS_KEY_ID": "testkey",
        "AWS_SECRET_ACCESS_KEY": "testsecret",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "TMPDIR": str(tmp),
        **given,
        "PYTHONPATH": os.pathsep.join(path),
        "_HANDLER": config.fields["Handler"],
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{config.fields['Runtime']}",
        "AWS_LAMBDA_FUNCTION_NAME": config.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(config.memory_mb),
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": config.log_group,
        "AWS_LAMBDA_LOG_STREAM_NAME": stream,
        "AWS_LAMBDA_LOG_FORMAT": logging.get("LogFormat", "Text"),
        "AWS_LAMBDA_RUNTIME_API": runtime_api,
        "LAMBDA_TASK_ROOT": task,
        "LAMBDA_RUNTIME_DIR": runtime,
    }
