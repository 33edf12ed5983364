"""Stop with one clear message where cctbx is missing or cannot be loaded any more."""

from edtbx._import_order import require_cctbx

require_cctbx()
