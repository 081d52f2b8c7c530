"""`/gpu`: what is free, the caller's requests and leases; what the spawner and operators ask."""

from __future__ import annotations

import math

from specola.core.errors import BadInput
from specola.core.scopes import ADMIN, GPU, GPU_WRITE
from specola.gpu.api import (
    Advice,
    CourseNeed,
    CoursePlan,
    Drain,
    Lease,
    Leases,
    NewGrant,
    NewRequest,
    Offers,
    OneTimeGrant,
    Overview,
    Redeem,
    Redeemed,
    Renew,
    Report,
    Requests,
    Saved,
    StartKernel,
    Token,
)
from specola.gpu.api import Request as GpuRequest
from specola.gpu.service import GpuService
from specola.http.route import Caller, Request, Route

SIZE = {
    "gib": "size in GiB",
    "minutes": "how long; an hour when absent",
    "pool": "of one pool only",
}
EACH = "/gpu/leases/{id}"
FENCE = {"token": "fencing token of the lease"}
LONGEST_NUMBER = 18
LONGEST_POOL = 64


def _whose(caller: Caller) -> str | None:
    """Whose leases the caller may change; None for the facility itself, which may change anybody's."""
    return None if caller.kind == "service" and caller.may(ADMIN) else caller.name


def _number(request: Request, name: str, default: str | None = None) -> float:
    text = request.query.get(name, default)
    try:
        number = float(text or "")
    except ValueError:
        raise BadInput(f"The query needs `{name}`", "It is a number.") from None
    if not math.isfinite(number):
        raise BadInput(f"The query needs `{name}`", "It is a number.")
    return number


def _fence(caller: Caller, request: Request) -> int | None:
    """The token that the query names; an operator need not know it."""
    text = request.query.get("token", "")
    if not text and caller.may(ADMIN):
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER):
        raise BadInput("The query needs `token`", "It is the fencing token of the lease, a whole number.")
    return int(text)


def routes(service: GpuService) -> list[Route]:
    """The routes over one service."""
    return [*_asking(service), *_holding(service), *_starting(service), *_telling(service), *_operating(service)]


def _asking(service: GpuService) -> list[Route]:
    async def offers(caller: Caller, _request: Request) -> Offers:
        return await service.offers(caller.name, caller.groups)

    async def advice(caller: Caller, request: Request) -> Advice:
        gib, minutes = _number(request, "gib"), _number(request, "minutes", "60")
        pool = request.query.get("pool") or None
        if pool is not None and len(pool) > LONGEST_POOL:
            raise BadInput("There is no such pool", f"A name of a pool has at most {LONGEST_POOL} characters.")
        return await service.advice(caller.name, caller.groups, gib, int(minutes), pool)

    async def ask(caller: Caller, request: Request) -> GpuRequest:
        return await service.ask(caller.name, caller.groups, request.read(NewRequest), request.idempotency_key)

    async def mine(caller: Caller, _request: Request) -> Requests:
        return await service.requests(caller.name)

    async def one(caller: Caller, request: Request) -> GpuRequest:
        return await service.request(caller.name, request.path_args["id"])

    async def cancel(caller: Caller, request: Request) -> GpuRequest:
        return await service.cancel(caller.name, request.path_args["id"])

    async def course(_caller: Caller, request: Request) -> CourseNeed:
        return await service.plan_course(request.read(CoursePlan))

    every, each, asked = "/gpu/requests", "/gpu/requests/{id}", "Ask for a GPU, or a part of one; it waits in the queue"
    planned = "What a course would need; nothing is reserved"
    return [
        Route("GET", "/gpu/offers", GPU, offers, response=Offers, summary="What is free, and how long the rest takes"),
        Route("GET", "/gpu/advice", GPU, advice, response=Advice, summary="What a size in GiB means here", query=SIZE),
        Route("GET", every, GPU, mine, response=Requests, summary="My requests"),
        Route("POST", every, GPU_WRITE, ask, request=NewRequest, response=GpuRequest, status=202, summary=asked),
        Route("GET", each, GPU, one, response=GpuRequest, summary="One of my requests"),
        Route("DELETE", each, GPU_WRITE, cancel, response=GpuRequest, summary="Wait no longer"),
        Route("POST", "/gpu/courses/plan", GPU, course, request=CoursePlan, response=CourseNeed, summary=planned),
    ]


def _holding(service: GpuService) -> list[Route]:
    async def mine(caller: Caller, _request: Request) -> Leases:
        return await service.leases(caller.name)

    async def one(caller: Caller, request: Request) -> Lease:
        return await service.lease(_whose(caller), request.path_args["id"])

    async def renew(caller: Caller, request: Request) -> Lease:
        return await service.renew(caller.name, request.path_args["id"], request.read(Renew))

    async def release(caller: Caller, request: Request) -> Lease:
        whose = None if caller.may(ADMIN) else caller.name
        fence, gone = _fence(caller, request), caller.kind == "service"
        return await service.release(whose, request.path_args["id"], fence, by=caller.name, server_gone=gone)

    ended, path = "Give a slice back, once its kernel is saved", f"{EACH}/renew"
    return [
        Route("GET", "/gpu/leases", GPU, mine, response=Leases, summary="My leases"),
        Route("GET", EACH, GPU, one, response=Lease, summary="One of my leases"),
        Route("DELETE", EACH, GPU_WRITE, release, response=Lease, status=202, summary=ended, query=FENCE),
        Route("POST", path, GPU_WRITE, renew, request=Renew, response=Lease, summary="More time"),
    ]


def _starting(service: GpuService) -> list[Route]:
    async def kernel(caller: Caller, request: Request) -> Lease:
        return await service.start_kernel(caller.name, request.path_args["id"], request.read(StartKernel))

    async def grant(caller: Caller, request: Request) -> OneTimeGrant:
        return await service.grant(caller.name, request.path_args["id"], request.read(NewGrant))

    async def confirm(caller: Caller, request: Request) -> Lease:
        return await service.confirm(_whose(caller), request.path_args["id"], request.read(Token).token)

    worker, into = "Start the kernel worker where the slice is", "Take a lease into a server that is about to start"
    ready = "The kernel or server is ready: the lease begins"
    return [
        Route(
            "POST", f"{EACH}/kernel", GPU_WRITE, kernel, request=StartKernel, response=Lease, status=202, summary=worker
        ),
        Route("POST", f"{EACH}/grant", GPU_WRITE, grant, request=NewGrant, response=OneTimeGrant, summary=into),
        Route("POST", f"{EACH}/confirm", GPU_WRITE, confirm, request=Token, response=Lease, summary=ready),
    ]


def _telling(service: GpuService) -> list[Route]:
    async def activity(caller: Caller, request: Request) -> Lease:
        return await service.report(caller.name, request.path_args["id"], request.read(Report))

    async def saved(caller: Caller, request: Request) -> Lease:
        return await service.saved(caller.name, request.path_args["id"], request.read(Saved))

    does, ends = "What the kernel of a lease does", "The kernel is saved: its lease may end"
    return [
        Route("POST", f"{EACH}/activity", GPU_WRITE, activity, request=Report, response=Lease, summary=does),
        Route("POST", f"{EACH}/saved", GPU_WRITE, saved, request=Saved, response=Lease, summary=ends),
    ]


def _operating(service: GpuService) -> list[Route]:
    async def redeem(_caller: Caller, request: Request) -> Redeemed:
        return await service.redeem(request.read(Redeem))

    async def overview(_caller: Caller, _request: Request) -> Overview:
        return await service.overview()

    async def drain(caller: Caller, request: Request) -> None:
        where = request.path_args
        await service.drain(where["pool"], where["gpu"], request.read(Drain), caller.name)

    async def undrain(caller: Caller, request: Request) -> None:
        await service.undrain(request.path_args["pool"], request.path_args["gpu"], caller.name)

    path, seen = "/gpu/drains/{pool}/{gpu}", "Who holds what since when, who waits, how scattered the free room is"
    stands = "What a one-time grant stands for"
    return [
        Route("POST", "/gpu/grants/redeem", ADMIN, redeem, request=Redeem, response=Redeemed, summary=stands),
        Route("GET", "/gpu/overview", ADMIN, overview, response=Overview, summary=seen),
        Route("PUT", path, ADMIN, drain, request=Drain, status=204, summary="Place nothing new on a GPU"),
        Route("DELETE", path, ADMIN, undrain, status=204, summary="Place on a GPU again"),
    ]
