"""Whether this site's runs correct anything: asked in every check, so what reads them is loaded only where there are any."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from preflight.records.folder import CORRECTION_FILE, records_folder

if TYPE_CHECKING:
    from preflight.device import DeviceSpec
    from preflight.records.site_correction import Correction


def damaged_corrections() -> str:
    """Return what of this site's corrections is passed over because it is damaged; nothing where all is well."""
    if not os.path.lexists(os.path.join(records_folder(), CORRECTION_FILE)):
        return ""
    from preflight.records.site_correction import damage

    return damage()


def known_correction(device: DeviceSpec | None) -> Correction | None:
    """Return what this site's runs correct on a device; what reads them is loaded where there are any."""
    if device is None or not os.path.exists(os.path.join(records_folder(), CORRECTION_FILE)):
        return None
    from preflight.records.site_correction import correction_for

    return correction_for(device)
