# The developer's commands; `just` lists them. Each runs inside the project's environment:
# `uv run just test`, or `just test` where just is installed.

set positional-arguments

# Print the recipes.
default:
    @just --list --unsorted

# Install what the tests need, then run every check and all tests; ends with pytest's closing line.
test *options: browser page-tools format-check lint types imports
    uv run pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder --cov \
        --cov-report=term:skip-covered "$@"

# Everything that `test` checks, without the tests.
check: format-check lint types imports

# Rewrite the sources in the one format.
format:
    uv run ruff format .

# Fail when a file is not in the one format.
format-check:
    uv run ruff format --check --quiet .

# Lint.
lint:
    uv run ruff check --quiet .

# Check the types, strictly.
types:
    uv run mypy

# Check that imports point one way: schemas <- core <- services.
imports:
    uv run lint-imports

# Make sure that a Chromium is here for the tests of the page.
browser:
    bash .ci/browser

# Make sure that what the tests need from npm is installed: the page's own, and foreign clients.
page-tools:
    uv run python -m millstream.testing.page_sources

# Run a benchmark and write bench/results/NAME.json.
bench name *options:
    shift; uv run python -m bench.{{ name }} "$@"

# Build the page into the API package.
page:
    uv sync --reinstall-package millstream

# Write what is generated: schemas, the settings in docs/operations.md, the client, golden folds.
docs:
    uv run python -m millstream_schemas.asyncapi > docs/asyncapi.json
    uv run python -m millstream_schemas.page_schema services/dashboard/src/fold/schema.json
    uv run python -m millstream.testing.folds tests/golden/folds
    uv run python -m millstream.runtime.settings_page docs/operations.md
    uv run python -m millstream.testing.role_table docs/roles.md
    uv run python -m millstream_api.client_code core/millstream/client
    uv run ruff check --quiet --select I,F401 --fix core/millstream/client
    uv run ruff format --quiet core/millstream/client

# Take the README's picture of the page from a real run.
picture:
    uv run python -m millstream.testing.picture docs/page.png

# Write requirements.lock anew: what the container image installs.
lock:
    uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header \
        --no-annotate --no-emit-index-url --no-emit-find-links --upgrade --quiet \
        --output-file requirements.lock
