"""What the xray.structure of cctbx gives: form factors, structure factors and their derivatives, bonds."""
