"""`python -m serve.api.fields` prints docs/api-fields.md."""

import sys

from serve.api.fields.docs import render_markdown

if __name__ == "__main__":
    sys.stdout.write(render_markdown())
