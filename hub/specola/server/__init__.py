"""The API service: adapters wired into services, routes mounted, the start page."""
