-- Who made a link for choosing a password; none for those of the command line. It is good as long as they may make it.
ALTER TABLE account_links ADD COLUMN made_by BIGINT;
