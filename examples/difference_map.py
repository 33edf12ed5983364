"""A difference map as cctbx scripts make it, from dynamical intensities: the line that makes the coefficients differs."""

from pathlib import Path

from edtbx_cctbx import DynamicalMap, DynamicalTarget, read_experiment, read_model  # isort: skip  (before numpy and scipy)

from cctbx import maptbx

HERE = Path(__file__).resolve().parent
experiment = read_experiment(HERE / "example.cif_pets")
whole = read_model(HERE / "example.cif")
hydrogen = whole.element_selection("H")
structure = whole.select(~hydrogen)
target = DynamicalTarget(experiment, structure)

light = whole.select(hydrogen)
for kind in ("fo_fc_kinematical", "newton"):
    # in place of: coefficients = f_obs.phase_transfer(f_calc) with the amplitudes F_obs - F_calc
    # (these atoms are where they were when the data were simulated; others should follow, as they do by default)
    coefficients = DynamicalMap(target, structure, atoms_follow=False).coefficients(kind)
    fft_map = coefficients.fft_map(symmetry_flags=maptbx.use_space_group_symmetry, resolution_factor=0.25)
    parameters = maptbx.peak_search_parameters(interpolate=True, min_distance_sym_equiv=0.5, max_clusters=12)
    peaks = fft_map.apply_volume_scaling().peak_search(parameters=parameters, verify_symmetry=False).all()
    nearest = light.closest_distances(sites_frac=peaks.sites(), distance_cutoff=0.35).i_seqs
    found = {light.scatterers()[place].label for place in nearest if place >= 0}
    print(
        f"{kind}: {len(found)} of {light.scatterers().size()} hydrogen atoms among the {peaks.sites().size()} highest peaks"
    )
