"""Records until it is killed: `… FOLDER`. Each number is printed once `record` has returned."""

import asyncio
import sys
from pathlib import Path

from tests.audit.rig import trail_in


async def main(folder: Path) -> None:
    async with trail_in(folder, segment_mib=1) as trail:
        number = 0
        while True:
            trail.record("request", {"request_id": f"req_{number}", "pad": "x" * 500})
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()
            number += 1
            if number % 20 == 0:
                await asyncio.sleep(0)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
