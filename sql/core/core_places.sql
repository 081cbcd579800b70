-- Places of the county with their validity, as configured in config/places.csv.
SELECT
    $period AS period,
    place_code,
    place_name,
    place_level,
    parent_code,
    valid_from_on,
    valid_to_on,
    in_programme
FROM accepted_places
