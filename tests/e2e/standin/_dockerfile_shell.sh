#!/bin/bash
# As in the image of micromamba: the environment is active for whatever runs, where the image says so.
set -e -o pipefail
if [ "$MAMBA_DOCKERFILE_ACTIVATE" = 1 ]; then
    eval "$("$MAMBA_EXE" shell hook --shell=bash)"
    micromamba activate base
fi
exec bash -o pipefail -c "$@"
