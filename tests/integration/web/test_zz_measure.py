"""Run as: pytest file in repo; measures."""
import asyncio, time, json, os
from pathlib import Path
import psutil, pytest, httpx
from tests.integration.web.serving import web
pytestmark = pytest.mark.django_db(transaction=True)

def pss(pid):
    ps=[psutil.Process(pid),*psutil.Process(pid).children(recursive=True)]
    return [round(p.memory_full_info().pss/1e6,1) for p in ps]

async def load(port, path, headers, seconds, conns):
    req=(f"GET {path} HTTP/1.1\r\nHost: x\r\n"+"".join(f"{k}: {v}\r\n" for k,v in headers.items())+"\r\n").encode()
    n=0; end=time.monotonic()+seconds; lat=[]; codes=set()
    async def one():
        nonlocal n
        r,w=await asyncio.open_connection("127.0.0.1",port)
        while time.monotonic()<end:
            t=time.monotonic(); w.write(req)
            head=await r.readuntil(b"\r\n\r\n"); codes.add(head[9:12])
            low=head.lower(); i=low.index(b"content-length:"); L=int(low[i+15:low.index(b"\r\n",i)])
            await r.readexactly(L); lat.append(time.monotonic()-t); n+=1
        w.close()
    await asyncio.gather(*(one() for _ in range(conns)))
    lat.sort(); return round(n/seconds), round(lat[len(lat)//2]*1e3,2), round(lat[int(len(lat)*.99)]*1e3,2), codes

def test_measure(tmp_path):
    from station.accounts import services
    from station.core.principal import system
    from station.accounts.models import User
    key = make_key()
    with web(tmp_path, STN_LOG_LEVEL="info") as s:
        time.sleep(2); print("idle pss", pss(s.process.pid))
        for path,h in (("/health",{}),("/api/v1/environments",{"Authorization":f"Bearer {key}"}),("/api/v1/",{}),("/api/v1/queue",{"Authorization":f"Bearer {key}"})):
            for conns in (1,16):
                print(path, conns, asyncio.run(load(s.port,path,h,3,conns)))
        print("after pss", pss(s.process.pid), psutil.Process(s.process.pid).children()[0].num_threads())

def make_key():
    from station.accounts.models import User
    from station.accounts import services
    from station.core.principal import system
    User.objects.create(username="x", is_superuser=True)
    return services.create_api_key(system("t"), name="k", username="x")[1]
