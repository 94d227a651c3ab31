=head1 NAME

Stress::Rows - which rows a writer takes for a move

=cut

package Stress::Rows;

use strict;
use warnings;

use Exporter 'import';
use Stress::Random;
use Stress::Schema;

our @EXPORT = qw(number live free calm settled still barren removable several
	new_row tag one any insert_rows);

# A number of this writer's, half of the time one of a few that are hot.
sub number
{
	my ($w) = @_;
	my $s = $w->{schema};
	my $n = int($s->{rows} * 1.2 / $s->{writers}) - 1;

	$n = 25 if chance(40) && $n > 25;
	return ($w->{number} || $s->{writers}) + $s->{writers} * below($n);
}

# A row that is there and meets a condition.
sub live
{
	my ($w, $test) = @_;

	for (1 .. 40)
	{
		my $row = $w->{model}{row}{ number($w) };

		return $row if $row && (!$test || $test->($row));
	}
	return;
}

sub free
{
	my ($w, $taken) = @_;

	for (1 .. 60)
	{
		my $kn = number($w);

		return $kn unless $w->{model}{row}{$kn} || ($taken && $taken->{$kn}++);
	}
	return;
}

sub calm { return !$_[0]{act}; }
sub settled { return !$_[0]{act} || $_[0]{act} =~ /self|late/; }
sub still { return ($_[0]{act} || '') ne 'phoenix'; }

sub barren
{
	my ($w) = @_;

	return sub { return calm($_[0]) && !$w->{model}->children($_[0]{kn}); };
}

# Whether a row may be deleted as the foreign key has it.
sub removable
{
	my ($w) = @_;

	return sub { return $w->{schema}{child} ne 'NO ACTION'
		  || !$w->{model}->children($_[0]{kn}); };
}

sub several
{
	my ($w, $n, $test) = @_;
	my %row;

	for (1 .. $n)
	{
		my $row = live($w, $test) or next;

		$row{ $row->{kn} } = $row;
	}
	return map { $row{$_} } sort { $a <=> $b } keys %row;
}

sub new_row
{
	my ($w, $kn) = @_;
	my $s = $w->{schema};
	my $ref = $w->{number} + $s->{writers} * below(7);

	return {
		kn => $kn, own => $w->{number}, grp => below(10), day => below(400),
		variant => $s->{key} eq 'loose' && chance(30) ? 1 : 0,
		n => below(1000), hits => below(3), code => chance(50) ? $w->fresh_code : undef,
		tag => tag($w), act => undef,
		ref => $s->{parent} && $w->{model}{parent}{$ref} && chance(30) ? $ref : undef };
}

sub tag
{
	my ($w) = @_;

	return undef if chance(20);
	return "w$w->{number}t" . below(1000) . ':' . (chance(10) ? between(60, 250) : between(1, 6));
}

sub one { my ($w, $row) = @_; return where_key($w->{schema}, $row); }

sub any
{
	my ($w, @rows) = @_;

	return '(' . join(' OR ', map { '(' . one($w, $_) . ')' } @rows) . ')';
}

sub insert_rows
{
	my ($w, @rows) = @_;
	my $s = $w->{schema};

	$w->run("INSERT INTO $s->{table} (@{[ join ', ', @Stress::Schema::columns ]}) VALUES "
		  . join(', ', map { $s->values_list($_) } @rows), scalar @rows);
	$w->{model}->write($_) for @rows;
	return;
}

1;
