"""The image and compose.yaml, run for real: `make test-image` and `make test-compose`.

No registry of images is needed: debootstrap makes the base, and the images of RabbitMQ, Postgres, nginx and
SeaweedFS come from Debian's packages and a wheel. Docker runs privately, with a daemon, directories and a
network namespace of its own, and is gone afterwards; a cache stays.
"""
